"""The reference of all settings, made from the types that read them: a page and a JSON schema."""

from distil_core.campaign.reference.page import settings_page
from distil_core.campaign.reference.schema import params_schema, schema_text

__all__ = ["params_schema", "schema_text", "settings_page"]
