"""From a MEG recording in any system's format to windows that a model takes."""
