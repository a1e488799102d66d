"""What a config costs on a topology, told without the hardware."""
