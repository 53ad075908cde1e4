"""The words and sentences of the `ioi` task, unless a suite brings its own.

The templates are those that the IOI paper lists (Wang et al. 2022, arXiv 2211.00593, appendix), written so that one
template serves both orders: `{first}` and `{second}` introduce the two people, `{subject}` is the one who is named
again, and the sentence stops where the other one's name is due.
"""

from __future__ import annotations

NAMES: tuple[str, ...] = (
    "Aaron", "Adam", "Alan", "Alex", "Alice", "Amy", "Andrew", "Anna", "Anthony", "Arthur",
    "Barbara", "Ben", "Benjamin", "Bob", "Brandon", "Brian", "Bruce", "Carl", "Carol", "Charles",
    "Charlie", "Chris", "Christian", "Christina", "Colin", "Connor", "Daniel", "David", "Diana", "Donald",
    "Edward", "Elizabeth", "Emily", "Emma", "Eric", "Frank", "Gary", "George", "Grace", "Greg",
    "Hannah", "Harry", "Helen", "Henry", "Ian", "Jack", "Jacob", "Jake", "James", "Jane",
    "Jason", "Jennifer", "Jeremy", "Jessica", "Jim", "Joe", "John", "Jonathan", "Joseph", "Joshua",
    "Julia", "Justin", "Karen", "Kate", "Keith", "Kelly", "Kevin", "Kyle", "Larry", "Laura",
    "Lauren", "Leo", "Lewis", "Lily", "Lisa", "Louis", "Lucy", "Luke", "Margaret", "Maria",
    "Martin", "Mary", "Matthew", "Max", "Melissa", "Michael", "Michelle", "Mike", "Nathan", "Nicholas",
    "Oliver", "Patrick", "Paul", "Peter", "Philip", "Rachel", "Rebecca", "Richard", "Robert", "Roger",
    "Ruth", "Ryan", "Sam", "Samuel", "Sarah", "Scott", "Sean", "Simon", "Stephen", "Steven",
    "Sue", "Susan", "Thomas", "Tim", "Timothy", "Tom", "Tony", "Victoria", "Vincent", "William",
)  # fmt: skip

PLACES: tuple[str, ...] = (
    "store", "garden", "restaurant", "school", "hospital", "office", "house", "station",
    "park", "beach", "library", "museum", "market", "farm", "church", "hotel",
)  # fmt: skip

OBJECTS: tuple[str, ...] = (
    "ring", "kiss", "bone", "basketball", "computer", "necklace", "drink", "snack",
    "book", "letter", "flower", "key", "hat", "cup", "gift", "coin",
)  # fmt: skip

TEMPLATES: tuple[str, ...] = (
    "Then, {first} and {second} went to the {place}. {subject} gave a {object} to",
    "Then, {first} and {second} had a lot of fun at the {place}. {subject} gave a {object} to",
    "Then, {first} and {second} were working at the {place}. {subject} decided to give a {object} to",
    "Then, {first} and {second} were thinking about going to the {place}. {subject} wanted to give a {object} to",
    "Then, {first} and {second} had a long argument, and afterwards {subject} said to",
    "After {first} and {second} went to the {place}, {subject} gave a {object} to",
    "When {first} and {second} got a {object} at the {place}, {subject} decided to give it to",
    "When {first} and {second} got a {object} at the {place}, {subject} decided to give the {object} to",
    "While {first} and {second} were working at the {place}, {subject} gave a {object} to",
    "While {first} and {second} were commuting to the {place}, {subject} gave a {object} to",
    "After the lunch, {first} and {second} went to the {place}. {subject} gave a {object} to",
    "Afterwards, {first} and {second} went to the {place}. {subject} gave a {object} to",
    "Then, {first} and {second} had a long argument. Afterwards {subject} said to",
    "The {place} {first} and {second} went to had a {object}. {subject} gave it to",
    "Friends {first} and {second} found a {object} at the {place}. {subject} gave it to",
)
