"""The Studio in the browser: pages over the same verbs that the API has.

A page reads from top to bottom in one file of ``pages``; what several share stands in ``parts``; every word that a
page says stands in ``words``, once for each language. Nothing that comes from data is ever taken for HTML: text goes
into elements as text, and charts draw it.
"""
