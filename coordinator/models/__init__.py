"""Model versions: jobs handed out, results attested, final versions announced."""
