"""What survives a power cut: atomic files, journals and small documents."""
