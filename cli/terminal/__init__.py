"""What a person sees and does at the terminal: streams, bars, widths, levels, interrupts, completion."""
