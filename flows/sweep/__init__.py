"""What a sweep is asked to do: its params file, its folders, what its node keys share."""
