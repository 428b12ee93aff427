"""The steps chained, on one machine or many: parameters, references, workers."""
