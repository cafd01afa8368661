"""The stages, one module each: settings and files in, files out."""
