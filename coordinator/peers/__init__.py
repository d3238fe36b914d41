"""Other coordinators: by id, signs of life, allowances, who answers each board."""
