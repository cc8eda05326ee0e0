"""The real program: started, watched, ended."""
