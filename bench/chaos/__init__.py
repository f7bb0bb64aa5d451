"""Chaos: everything that can break is broken while events are posted, and then every message is accounted for.

    python -m bench.chaos --minutes 10 --seed 1

    control.py      what the processes are told while they run, and the files in which they note what they did
    receiver*.py    SMTP, HTTP and Twilio look-alikes that misbehave on command and keep a ledger
    worker.py       the worker process as chaos starts it: the product's own, with what it sends noted down
    poison.py       messages that kill or hang the process that sends them
    sabotage.py     faults planted into the worker, to prove that chaos would see them
    world.py        the servers and processes, how they are killed and started again
    posts.py        what is posted, and what must come of it
    clients.py      who posts it, until it is answered
    faults.py       what is broken, when, and for how long
    pulse.py        how busy the machine is meanwhile
    history.py      what the database says afterwards
    evidence.py     what processes and receivers noted
    expected.py     what must have come of what was posted
    verdict.py      ledger and database compared
    report.py       the table
    story.py        what befell a delivery that something is wrong with

The product knows nothing of it: chaos comes in through entry modules of its own and through the servers around it.
"""
