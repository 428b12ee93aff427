"""From the mean profile of a group to its total rate, its expected rate, and their ratio."""
