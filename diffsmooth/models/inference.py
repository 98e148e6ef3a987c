"""placeholder until the speed branch lands"""


def prepare(f, compiled):
    f.purifier


def can_compile(device):
    return "not yet"


def compile_pays(a, b, c):
    return False


def flops_a_vote(f):
    return 0
