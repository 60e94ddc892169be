"""
Surface influence of satellite scenes, as Dagster assets.

    scene -> retrieval -> receptor -> meteorology -> simulation -> particles -> transport -> footprint -> table ->
    whole -> pack -> pixel -> matrix -> jacobian

Each word is a module that imports only from those to its left. None of them knows of Dagster.
"""
