"""Appointments: in order, once, and never the ones that were called off."""

from proxy.supervisor.timers import Timers


def test_appointments_run_in_order_of_time_and_then_of_making():
    timers, said = Timers(), []
    for moment, word in ((2.0, "c"), (1.0, "a"), (1.0, "b"), (9.0, "late")):
        timers.at(moment, lambda word=word: said.append(word))
    timers.run(2.0)
    assert said == ["a", "b", "c"]


def test_a_cancelled_appointment_neither_runs_nor_wakes():
    timers, said = Timers(), []
    timers.at(1.0, lambda: said.append("cancelled")).cancel()
    assert timers.pause(0.0) is None
    timers.at(5.0, lambda: said.append("kept"))
    assert timers.pause(1.0) == 4.0
    timers.run(5.0)
    assert said == ["kept"]


def test_an_appointment_made_while_running_waits_for_the_next_turn():
    timers, said = Timers(), []

    def again():
        said.append("run")
        timers.at(0.0, again)

    timers.at(0.0, again)
    timers.run(1.0)
    assert said == ["run"]
    assert timers.pause(1.0) == 0.0


def test_one_that_is_called_off_by_another_of_the_same_turn_does_not_run():
    timers, said = Timers(), []
    timers.at(1.0, lambda: second.cancel())
    second = timers.at(1.0, lambda: said.append("second"))
    timers.run(1.0)
    assert said == []
