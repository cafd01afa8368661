"""The pages that people read about a recorded iteration: Markdown, with links to MLflow's pages."""
