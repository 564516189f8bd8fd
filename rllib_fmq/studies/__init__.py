"""Studies: tasks x methods x settings x seeds on Ray Tune, and the table that they leave."""

from rllib_fmq.studies.definition import Method, Setting, Study, StudyTask, load_study

__all__ = ["Method", "Setting", "Study", "StudyTask", "load_study"]
