"""Every word that is sent to a model. Installed as `templora_cli.prompts`, so that the wheel carries it."""
