"""What makes two prompts different questions, however near they are; and what does not."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from langchain_costguard.caching.semantic.conflicts import VETOES, conflicts
from langchain_costguard.caching.semantic.reading import read

DIFFERENT = [
    ("What is 5 times 12?", "What is 50 times 12?", "numbers differ: 5 / 50"),
    ("the first world war", "the second world war", "numbers differ: #1 / #2"),
    ("World War I causes", "Who won World War II and World War III?", ""),
    ("the causes of World War II", "the causes of World War III", "numbers differ: 2 / 3"),
    ("Is Python 3.1 supported?", "Is Python 3.10 supported?", "numbers differ: 3.1 / 3.10"),
    ("What changed in v2.10.0?", "What changed in v2.1.0?", "numbers differ: 2.10.0 / 2.1.0"),
    ("How good is gpt-4o?", "How good is gpt-4?", "numbers differ: gpt4o / gpt4"),
    ("Send five dollars", "Send nine dollars", "numbers differ: 5 / 9"),
    ("a loan of two thousand five hundred", "a loan of 2,600", "numbers differ: 2500 / 2600"),
    ("How far is 5 km?", "How far is 5 miles?", "units differ: 5 km / 5 mile"),
    ("Is 5% much?", "Is $5 much?", "units differ: 5 % / 5 usd"),
    ("cancel within one week", "cancel within 2 weeks", "numbers differ: 1 / 2"),
    ("Are you open on Monday?", "Are you open on Sunday?", "dates differ: monday / sunday"),
    ("What happened on 2024-01-05?", "What happened on 2024-01-06?", "dates differ: 2024-01-05 / 2024-01-06"),
    ("Wake me at 6am", "Wake me at 6 pm", "dates differ: 6:00 / 18:00"),
    ("What is the capital of France?", "What is the capital of Spain?", "names differ: france / spain"),
    ("Does it run on macOS?", "Does it run on Windows?", "names differ: macos / windows"),
    ("Can I pay by card?", "Can't I pay by card?", "one is negated, and the other is not"),
    ("Is this food safe?", "Is this food not safe?", "one is negated, and the other is not"),
    ("the cheapest phone", "the most expensive phone", "opposites differ: cheapest / expensive"),
    ("How do I enable alerts?", "How do I disable alerts?", "opposites differ: enable / disable"),
    ("coffee with sugar", "coffee without sugar", "opposites differ: with / without"),
    ("Who founded the company?", "When was the company founded?", "question words differ: who / when"),
    ("How many eggs a day?", "How long do eggs keep?", "question words differ: how many / how long"),
    ("Wie ist das Wetter und wo ist es?", "What is the weather and where is it?", "languages differ: German / English"),
    ("погода в Москве", "weather in Moscow", "scripts differ: cyrillic / latin"),
    ("convert euros to dollars", "convert dollars to euros", "directions differ: euro to dollar / dollar to euro"),
]

ALIKE = [
    ("How do I get five apples?", "How do I get 5 apples?"),
    ("a fee of 1,000 dollars", "a fee of $1000"),
    ("a fee of 5k", "a fee of 5000"),
    ("a budget of $5m", "a budget of 5 million dollars"),
    ("twenty-five percent", "25%"),
    ("one hundred and five days", "105 days"),
    ("\u0665 كتب", "5 كتب"),
    ("the 3rd floor", "the third floor"),
    ("meet me at 9:30 am", "meet me at 9.30am"),
    ("Which one is better?", "Which is better?"),
    ("wait a second", "wait a moment"),
    ("What is Hugging Face?", "What is HF?"),
    ("Does HF host models?", "Does Hugging Face host models?"),
    ("Who was Henri Fayol of France?", "Who was Henry Fayol of France?"),
    ("What Is The Best Way To Learn Go?", "What is the best way to learn Rust?"),
    ("the price of the iPhone", "the price of the iPhone 6"),
    ("It does not exist here.", "It is unavailable here."),
    ("No, it does not exist.", "It does not exist."),
    ("not only cheap", "cheap, too"),
    ("What is the reason for rain?", "Why does it rain?"),
    ("watch S4E2 of it", "watch S04E02 of it"),
    ("¿Cómo puedo cancelar mi pedido?", "¿Cómo cancelo el pedido?"),
    ("我想取消订单", "取消我的订单"),
    ("Wo kaufe ich Brot und die Butter?", "Wo kaufe ich die Milch und das Brot?"),
]


@pytest.mark.parametrize(("one", "other", "why"), DIFFERENT)
def test_what_differs_is_said_whichever_prompt_comes_first(one: str, other: str, why: str) -> None:
    found = conflicts(read(one), read(other))
    if not why:
        assert found == ()
        return
    assert why in found
    assert conflicts(read(other), read(one))


@pytest.mark.parametrize(("one", "other"), ALIKE)
def test_the_same_said_otherwise_is_no_conflict(one: str, other: str) -> None:
    assert conflicts(read(one), read(other)) == ()
    assert conflicts(read(other), read(one)) == ()


OPPOSITE = """
Did Ann sue Bob? / Did Bob sue Ann?
Which team beat the Lakers? / Which team did the Lakers beat?
Who hired Tim? / Who did Tim hire?
Google acquired Fitbit when? / Fitbit acquired Google when?
Did Rome invade Carthage / Was Rome invaded by Carthage
Does the cat chase the dog? / Does the dog chase the cat?
convert pounds to kilos / convert kilos to pounds
Translate from French to German / Translate from German to French
Is the lender paying the borrower? / Is the borrower paying the lender?
flights from Oslo to Rome / flights from Rome to Oslo
Can a child take this medicine? / Can an adult take this medicine?
Is it safe to eat raw eggs? / Is it unsafe to eat raw eggs?
Is the museum open on Monday? / Is the museum closed on Monday?
turn the alarm on / turn the alarm off
How do I switch notifications on? / How do I switch notifications off?
What is 12 + 4? / What is 12 - 4?
x > 5 / x < 5
select rows where a >= 3 / select rows where a <= 3
Show users who are active and paid / Show users who are active or paid
sales this month / sales last month
sales this year / sales next year
price per month / price per year
How do I sign in? / How do I sign out?
zoom in on the map / zoom out on the map
scroll up the page / scroll down the page
check in at the hotel / check out at the hotel
Is alcohol allowed on the plane? / Is alcohol prohibited on the plane?
Are pets permitted? / Are pets forbidden?
Which is the fastest route? / Which is the slowest route?
mount the drive / unmount the drive
attach a debugger / detach a debugger
subscribe to the list / unsubscribe from the list
follow a user / unfollow a user
inbound traffic rules / outbound traffic rules
internal users / external users
employer contribution / employee contribution
harmful bacteria / harmless bacteria
Is the tea hot? / Is the tea cold?
sort ascending / sort descending
Is coffee good for you? / Is coffee bad for you?
What should I do before surgery? / What should I do after surgery?
enable two-factor login / disable two-factor login
Is it legal to record calls? / Is it illegal to record calls?
How to gain weight? / How to lose weight?
How to get into debt / How to get out of debt
pros of remote work / cons of remote work
Is this drug safe for adults? / Is this drug safe for children?
Is this safe for dogs? / Is this safe for cats?
Can I drink it while pregnant? / Can I drink it while not pregnant?
How do I upgrade my plan? / How do I downgrade my plan?
Is the file readable? / Is the file writable?
minimum password length / maximum password length
first day of the month / last day of the month
Show the oldest orders / Show the newest orders
Does it include tax? / Does it exclude tax?
prices including VAT / prices excluding VAT
compress the folder / decompress the folder
symmetric encryption / asymmetric encryption
typical symptoms / atypical symptoms
a moral choice / an immoral choice
approve the request / reject the request
Who reports to the manager? / Who does the manager report to?
the mother of the king / the king of the mother
How do I forward emails from Gmail to Outlook? / How do I forward emails from Outlook to Gmail?
Is A larger than B? / Is B larger than A?
Is a wolf stronger than a dog? / Is a dog stronger than a wolf?
Is it cheaper to rent or buy in Berlin? / Is it cheaper to rent or buy in Munich?
Are bananas high in potassium? / Are bananas low in potassium?
positive feedback / negative feedback
Why is the server up? / Why is the server down?
Show me only paid invoices / Show me only unpaid invoices
Is it available in the morning? / Is it available in the evening?
How to add a column / How to drop a column
Are deposits refundable? / Are deposits nonrefundable?
increase the font size / decrease the font size
make the text larger / make the text smaller
Is the API synchronous? / Is the API asynchronous?
Show failed jobs / Show successful jobs
show everyone except admins / show only admins
users with a subscription / users without a subscription
at least 3 items / at most 3 items
more than 3 items / fewer than 3 items
when does summer time start / when does summer time end
How do I mute the call? / How do I unmute the call?
stop the container / start the container
Is it going to rain today? / Is it going to rain tomorrow?
Should I take it with food? / Should I take it without food?
Is it good for beginners? / Is it good for experts?
Do teachers grade students? / Do students grade teachers?
Why do men leave women? / Why do women leave men?
What does the buyer owe the seller? / What does the seller owe the buyer?
What is the boiling point of water? / What is the freezing point of water?
What are the symptoms of high blood pressure? / What are the symptoms of low blood pressure?
How do I hide a column? / How do I unhide a column?
How do I hide a column? / How do I show a column?
read access / write access
Is the light bright? / Is the light dim?
What time does the store open? / What time does the store close?
Is he guilty? / Is he innocent?
Who won the match? / Who lost the match?
""".strip().splitlines()
"""Opposites, roles reversed, operators and scopes: one pair a line."""

SAME = """
How do I turn on the lights? / How do I switch the lights on?
How can I close my account? / How do I shut my account down?
Difference between TCP and UDP / Difference between UDP and TCP
How do I install git on Debian? / On Debian, how do I install git?
Where can I buy a used bike? / Where do I purchase a used bike?
What is the fastest way to learn Go? / How can I learn Go fast?
What are the benefits of yoga? / What are the advantages of yoga?
Is it forbidden to park here? / Is parking here not allowed?
Who wrote Hamlet? / By whom was Hamlet written?
Did Ann sue Bob? / Was Bob sued by Ann?
How do I log in to the portal? / How can I sign in to the portal?
How do I find out my balance? / How can I look up my balance in the app?
cheapest flight from Oslo to Rome / lowest price flight from Oslo to Rome
How many users are there? / What is the number of users?
How do I reset my password? / I forgot my password, how do I reset it?
What is the capital of France? / France's capital is what?
How do I delete a user? / How do I remove a user?
How to reduce costs / How do I lower my costs
What's the weather like in Paris today? / How is the weather today in Paris?
Which is better, X or Y? / Between X and Y, which one is better?
Is Berlin far from Munich? / Is Munich far from Berlin?
Are cats and dogs related? / Are dogs and cats related?
How to start a business / How do I begin a business
Can I bring my dog on board? / Are dogs allowed on board?
""".strip().splitlines()


def pair(line: str) -> tuple[str, str]:
    one, other = line.split(" / ")
    return one, other


@pytest.mark.parametrize("line", OPPOSITE)
def test_opposites_reversed_roles_operators_and_scopes_are_other_questions(line: str) -> None:
    one, other = pair(line)
    assert conflicts(read(one), read(other))
    assert conflicts(read(other), read(one))


@pytest.mark.parametrize("line", SAME)
def test_other_words_and_another_order_are_the_same_question(line: str) -> None:
    one, other = pair(line)
    assert conflicts(read(one), read(other)) == ()
    assert conflicts(read(other), read(one)) == ()


def test_only_the_checks_asked_for_are_made() -> None:
    one, other = read("Send 5 to Paris, not Rome"), read("Send 50 to Oslo, to Rome")
    assert conflicts(one, other, ("numbers",)) == ("numbers differ: 5 / 50",)
    assert conflicts(one, other, ()) == ()


TEXTS = st.one_of(
    st.text(max_size=80),
    st.lists(
        st.sampled_from(
            [
                "one",
                "hundred",
                "million",
                "and",
                "5",
                "5k",
                "$",
                "1,000",
                "second",
                "-3",
                "a",
                "week",
                "3.10",
                "½",
                "\uff11\uff12",
            ]
        ),
        max_size=8,
    ).map(" ".join),
)


@given(TEXTS, TEXTS)
@settings(max_examples=150, deadline=None)
def test_any_two_texts_can_be_compared_and_none_is_in_conflict_with_itself(one: str, other: str) -> None:
    for check in VETOES.values():
        assert bool(check(read(one), read(other))) == bool(check(read(other), read(one)))
    read.cache_clear()
    again = read(one)
    read.cache_clear()
    assert conflicts(again, read(one)) == ()


def test_a_very_long_prompt_is_read_at_both_ends() -> None:
    start, end = "Sum up 5 pages. ", " Then name 7 cities."
    middle = "words and words " * 5_000
    assert read(start + middle + end).quantities.values == {"5", "7"}
