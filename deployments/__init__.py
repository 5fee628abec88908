"""timbre as a Ray Serve application: wiring, replicas, HTTP ingress and settings.

Raises ImportError where another program's package has the name of one of ours.
"""

from deployments.own_packages import stranger_on

if (stranger := stranger_on()) is not None:
    raise ImportError(stranger)
