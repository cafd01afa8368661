"""Tables that DVC stores, as MLflow's datasets.

MLflow imports the source class through this project's entry point while MLflow itself is imported.
So it is imported here, before any module of this folder: whoever imports the class first, MLflow
finds it complete.
"""

import mlflow.data  # noqa: F401
