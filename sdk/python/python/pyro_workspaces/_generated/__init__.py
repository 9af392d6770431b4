"""Written from the catalogue of operations by `make reference`."""
