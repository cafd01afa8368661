"""New packages of components: written from templates, installable and passing their contract."""

from distil_core.scaffold.write import NewPackage, new_package

__all__ = ["NewPackage", "new_package"]
