"""What a person reads of a recorded iteration: Markdown, with links to MLflow's pages."""
