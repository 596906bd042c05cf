"""What a hardware profile may say: its fields, its checks, where it is found."""
