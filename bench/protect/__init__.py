"""What an attack does to everybody else.

    python -m bench.protect

A node in a network namespace of its own, attackers and customers in another, each of them with an
address of their own. In reading order: customers, attacks, __main__.
"""
