"""A user's own module, as text to be written where the command runs."""

MINE = """
    import os
    import time

    import torch
    from torch import nn

    class Net(nn.Module):
        def __init__(self, classes, hidden=6):
            super().__init__()
            self.body = nn.Linear(64, hidden)
            self.act = nn.Tanh()
            self.head = nn.Linear(hidden, classes)
        def forward(self, x):
            return self.head(self.act(self.body(x.flatten(1))))

    class Scaled(nn.Module):
        def __init__(self, classes):
            super().__init__()
            self.scale = nn.Parameter(torch.ones(()))
            self.head = nn.Linear(64, classes)
        def forward(self, x):
            return self.head(x.flatten(1)) * self.scale

    class Wrong(nn.Linear):
        def __init__(self):
            super().__init__(8, 7)

    class Dropping(Net):
        def forward(self, x):
            return super().forward(nn.functional.dropout(x, 0.1, self.training))

    class Raising(Net):
        calls = 0
        def forward(self, x):
            self.calls += self.training
            if self.calls == 9:
                raise ArithmeticError("the ninth call is one too many")
            return super().forward(x)

    class Slow(Net):
        def forward(self, x):
            time.sleep(float(os.environ.get("SLOW", "0")) * self.training)
            return super().forward(x)

    class Undefined(Net):
        def forward(self, x):
            return super().forward(x) * float("nan")

    class Shrinking(Net):
        calls = 0
        def forward(self, x):
            self.calls += self.training
            logits = super().forward(x)
            return logits[..., :-1] if self.calls > 6 else logits

    class Choosy:
        def __init__(self, std):
            self.std = std
        def __call__(self, shape, fans, *, generator, dtype):
            if self.std == 0.2:
                raise ArithmeticError("not with 0.2")
            return self.std * torch.randn(shape, generator=generator, dtype=dtype)

    class MyInit:
        def __init__(self, std):
            self.std = std
        def __call__(self, shape, fans, *, generator, dtype):
            return self.std * torch.randn(shape, generator=generator, dtype=dtype)
"""
