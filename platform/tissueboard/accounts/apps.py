from django.apps import AppConfig


class AccountsConfig(AppConfig):
    name = "tissueboard.accounts"
    label = "accounts"
