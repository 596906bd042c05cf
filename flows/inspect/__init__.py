"""What a user's file is, and how it is fed and read: before hours are spent on it."""
