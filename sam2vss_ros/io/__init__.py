"""Images, videos, bags and calibrations: what the commands, evaluation, demo and node share."""
