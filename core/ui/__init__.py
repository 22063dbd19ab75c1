"""The Gradio app: one file a tab."""
