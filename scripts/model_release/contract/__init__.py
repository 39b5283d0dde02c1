"""What is promised, and whether it is kept. Pure: nothing is run or fetched."""
