"""Other tools' files, one module each: ``write(run, path)`` and ``read(path)``."""
