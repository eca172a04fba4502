"""The executed notebooks, what they drew and the recorded tables as a static web site: ``xmod-lab site``.

    build.py      which series run, which pages, and the folder put in place at once
    notebooks.py  an executed notebook: its pictures and views as files, its cells as HTML
    main.py       what the copy of the main pages shows that a repository keeps
    records.py    recorded suites and README's pictures
    text.py       Markdown to HTML
"""
