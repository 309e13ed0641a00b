"The long files first: two workers then end at about the same time (with xdist's --no-loadscope-reorder)."
LONG = ('test_recipe', 'test_trainer', 'test_stages', 'test_arms')


def pytest_collection_modifyitems(items): items.sort(key=lambda item: LONG.index(item.path.stem) if item.path.stem in LONG else len(LONG))
