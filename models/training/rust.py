"""Numbers as Rust constants, for the trainers whose weights are compiled in."""


def text(v):
    s = f'{v:.4f}'.rstrip('0')
    s = s + '0' if s.endswith('.') else s
    return '0.0' if s == '-0.0' else s


def row(values):
    return '[' + ', '.join(text(v) for v in values) + ']'
