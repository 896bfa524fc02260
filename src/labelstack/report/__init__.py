"""Figures, the HTML report and the leaderboard in the terminal."""
