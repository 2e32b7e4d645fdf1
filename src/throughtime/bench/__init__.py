"""The benchmark: ThroughTime against the frameworks, each in a process of its own, equal results first and times after."""
