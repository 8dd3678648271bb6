"""The few numerical operations where time goes. Plain tensors in, plain tensors out.

Each operation is defined in plain torch (any device, any dtype); `dispatch` says which faster
implementation, if any, runs in its place.
"""
