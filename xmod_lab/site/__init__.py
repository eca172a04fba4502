"""The executed notebooks, what they drew and the recorded tables as a static web site: ``xmod-lab site``.

    build.py      which series run, which pages, and the folder put in place at once
    notebooks.py  an executed notebook: its pictures and views as files, its cells as HTML
    records.py    recorded suites and README's pictures
    text.py       Markdown to HTML
"""
