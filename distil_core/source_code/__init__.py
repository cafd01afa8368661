"""Which source files a component is made of, their digests, and links by which DVC sees them."""

from distil_core.source_code.closure import (
    import_closure,
    module_file,
    package_places,
    path_in_package,
)
from distil_core.source_code.component_code import ComponentCode, code_of, require_as_loaded
from distil_core.source_code.digests import code_digest
from distil_core.source_code.links import (
    BUILT_IN_FILE,
    CODE_FOLDER,
    folder_for,
    link_sources,
    linked_modules,
)

__all__ = [
    "BUILT_IN_FILE",
    "CODE_FOLDER",
    "ComponentCode",
    "code_digest",
    "code_of",
    "folder_for",
    "import_closure",
    "link_sources",
    "linked_modules",
    "module_file",
    "package_places",
    "path_in_package",
    "require_as_loaded",
]
