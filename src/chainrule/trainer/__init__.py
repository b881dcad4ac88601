"""Training a GPT on real text: what ``chainrule train`` and ``chainrule sample`` run.

``settings`` says what can be chosen, ``loop`` trains, ``checkpoint`` saves so that a killed
run continues bit-exactly, ``report`` writes down what came out.
"""
