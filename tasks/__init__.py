"""Tasks, one module each; discovered by walking this package."""
