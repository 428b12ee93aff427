"""Files of others, looked at before anything large, or anything that they refer to, is read."""
