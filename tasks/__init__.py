"""What is learned: data sets, how their rows become clients, models and losses."""
