"""Reading the lake for people and programs: queries over one consistent cut, and the formats they are printed in."""
