"""The process: moves events from the log to a handler and its outcome into a receipt.

doorbell -> reader -> scheduler -> workers -> settler
  wake      window    which may    handler    the only
  or poll   of the    run now      called     writer
            log          ^                      |
                         +------- timers <------+
                                  what waits

delivery.py holds.py scheduler.py decide.py backoff.py    values and pure decisions
pending.py report.py                                      what the settler writes next, and what people see of it then
clock.py lease.py                                         the database's time, the lease
listener.py                                               hears what is notified, or tells that it does not
keeper.py drainer.py                                      which lanes are ours: taken, and given up drained
guard.py                                                  whether this is still the cluster that the log belongs to
spill.py                                                  what hot keys have queued, beyond what can run soon
gauges.py pruner.py                                       what is read and deleted now and then
wiring.py incarnation.py                                  all of the above, for as long as one lease lasts
app.py installation.py watchdog.py                        the process around incarnations: handlers, HTTP, signals
metrics.py health.py logs.py tracing.py settings.py       what people see and set
redaction.py                                              what they must not see
cli/ demo/ bench/                                         what people call
"""
