"""Tables that DVC keeps, as MLflow's datasets.

MLflow imports the source class by this project's entry point while it is itself imported. So it is
imported here, before any module of this folder begins: whoever asks for the class first, MLflow
finds it whole.
"""

import mlflow.data  # noqa: F401
