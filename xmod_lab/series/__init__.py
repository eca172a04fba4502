"""Run the notebooks, prove that they ran, compare their numbers, build exercises, export HTML.

source.py     notebooks on disk: names, parameters, needs, budgets
run.py        plan and execute, several at once, each in a child process of its own (one.py)
proof.py      what an executed notebook proves, and where it stopped
report.py     report.json, JUnit XML, lines for the terminal
page.py       HTML without a network: each notebook, and an index
expected.py   recorded numbers against ``tests/expected/<profile>.json``
exercises.py  student's versions from notebooks with solutions
lint.py       the skeleton every notebook follows
"""
