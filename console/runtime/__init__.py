"""Server of the console: files, connections and clocks."""
