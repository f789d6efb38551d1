"""What every wing needs and nothing about images: errors, files, flags and messages, random numbers, processes."""
