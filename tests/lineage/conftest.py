"""Here so that pytest puts this folder on sys.path: tests of every wing import its helpers."""
