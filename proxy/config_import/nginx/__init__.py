"""nginx: crossplane reads the files, with what they include; `directives` makes a tree of that,
`servers` a site of each server block, `locations` routes of its locations."""
