"""How the supervisor's parts are put together: each is made once, and given what it needs.

Four parts are told of others that are made later, because two things that speak with each other
cannot both come first: `Processes.listener`, `Succession.owner`, `ControlSocket.handler` and
`CertifierRequests.starter`. They are set here, the second by `Upgrade`, and nowhere else.
"""

from __future__ import annotations

import selectors

from .alerts import Alerting
from .certifier_requests import CertifierRequests
from .containers import ContainerFeed
from .control.admin_questions import AdminQuestions
from .control.board import Board
from .control.commands import Commands
from .control.overview import Overview
from .control.probe_tokens import ProbeTokens
from .control.server import ControlSocket
from .deliveries import Deliveries
from .lifecycle import Lifecycle
from .on_demand import OnDemand
from .operations import Operations
from .process_table import Processes
from .readiness import Readiness
from .registry import Registry
from .reload.generations import Generations
from .reload.reload import Reloader
from .rotation import Rotation
from .self_check import SelfCheck
from .shutdown import Shutdown
from .signals import Signals
from .span_pipe import SpanPipe
from .spawner import Spawner
from .startup import Startup
from .supervisor import Parts, Supervisor
from .timers import Timers
from .upgrade.succession import Succession
from .upgrade.upgrade import Upgrade


def supervisor(startup: Startup) -> Supervisor:
    """The supervisor of what `serve` has prepared."""
    config, handoff, notifier = startup.config, startup.handoff, startup.notifier
    selector, timers, lifecycle = selectors.DefaultSelector(), Timers(), Lifecycle()
    processes = Processes(selector)
    deliveries = Deliveries(processes, timers)
    registry = Registry(processes, deliveries)
    requests = CertifierRequests(processes)
    generations = Generations(config, startup.listeners, handoff.generation if handoff else 0)
    on_demand = OnDemand(processes, requests)
    self_check = SelfCheck(processes, registry, generations)
    containers = ContainerFeed(lifecycle, processes, timers, startup.door, config)
    overview = Overview(processes, registry, generations, on_demand, timers, containers)
    alerting = Alerting(processes, timers, registry, overview)
    board = Board(
        processes, registry, generations, overview, alerting, handoff.history if handoff else None
    )
    succession = Succession(
        selector, timers, lifecycle, startup.program, handoff, managed=notifier.sock is not None
    )
    control = ControlSocket(config.state / "control.sock", selector, timers)
    spans = SpanPipe()
    spawner = Spawner(
        lifecycle, processes, deliveries, registry, generations, timers, startup.access_log, spans
    )
    requests.starter = spawner
    shutdown = Shutdown(
        lifecycle,
        processes,
        generations,
        timers,
        alerting,
        containers,
        succession,
        notifier,
        startup.lock,
    )
    reloader = Reloader(
        lifecycle, processes, registry, generations, timers, notifier, startup.own,
        startup.source, spawner, overview, shutdown, Readiness(control, succession, startup.lock),
        containers,
    )  # fmt: skip
    upgrade = Upgrade(
        succession, generations, spawner, reloader, shutdown, notifier, startup.own,
        startup.lock, started_as=startup.started_as, sandbox=startup.sandbox, containers=containers,
        board=board,
    )  # fmt: skip
    operations = Operations(lifecycle, reloader, upgrade, shutdown, timers)
    commands = control.handler = Commands(
        requests, registry, overview, board, generations, ProbeTokens(registry, timers),
        reloader, operations,
    )  # fmt: skip
    made = Supervisor(
        Parts(
            selector, timers, lifecycle, processes, deliveries, registry, requests, generations,
            overview, on_demand, self_check, alerting, containers, board, spawner, reloader,
            succession, shutdown, operations,
            AdminQuestions(processes, board, commands, spawner, lifecycle),
            control, notifier,
        ),
        successor=handoff is not None,
    )  # fmt: skip
    processes.listener = made
    processes.owners += [
        Signals(selector, made.on_signal), succession, generations, registry, startup.access_log,
        startup.own, startup.lock, notifier, control, containers, spans,
    ]  # fmt: skip
    Rotation(timers, lambda: generations.serving.config, spawner.reopen_log).start()
    registry.from_files(startup.certificates)
    return made
