"""The Agno agent every side runs; OPMAS loads it as it is, for the others `program.py` does."""

from agno.agent import Agent

from opmas.agent.offline import OfflineModel

agent = Agent(id="bench", name="Bench", model=OfflineModel(), telemetry=False)
